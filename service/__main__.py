"""`python -m service` is `pointsman`."""

from service.cli import main

if __name__ == "__main__":
    main()
