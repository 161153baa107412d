"""A small procedural world: pictures, videos and their causes, without a download. See `images` and `video`."""
