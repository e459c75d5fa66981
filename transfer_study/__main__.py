"`python -m transfer_study` is the command `transfer-study`."

from transfer_study.cli.main import main

if __name__ == "__main__":
    main()
