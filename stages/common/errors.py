"""The one kind of error a user is meant to read."""


class InputError(ValueError):
    """Something the user gave (a setting, a file, a model) cannot be used.

    The message says what was given, where, and what would be right; it is shown without a traceback.
    """
