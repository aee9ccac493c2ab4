"""One run: built, trained, fixed, measured, written."""
