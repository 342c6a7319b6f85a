"""The one exception that a user can fix."""


class UserError(Exception):
    """A mistake in an experiment file, a command line or a data folder.

    The message is one sentence that names the file or key, the reason and the fix. Every command
    prints it alone, without a traceback, and ends with exit code 2.
    """
