"""The errors a user is meant to read."""


class InputError(ValueError):
    """Something the user gave (a setting, a file, a model) cannot be used.

    The message says what was given, where, and what would be right; it is shown without a traceback.
    """


class SettingError(InputError):
    """A setting cannot be used. The message begins with the setting's key, such as `prune.sparsity: 2: ...`.

    Who read the settings from a file puts its name before the key (stages/common/console.py).
    """
