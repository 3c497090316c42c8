from secateurs.endings import short_endings

# Of this package all is programs.
short_endings()
