"""``python -m undertow`` is the command ``undertow``."""

if __name__ == "__main__":
    from undertow.cli import main

    main()
