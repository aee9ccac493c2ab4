"""One run: its parts are built, it trains and fixes a network, measures it and writes its files."""
