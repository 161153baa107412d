"""`python -m nolabel` is the command `nolabel`, where the folder of scripts is not on the path."""

from nolabel.cli import main

if __name__ == "__main__":
    main()
