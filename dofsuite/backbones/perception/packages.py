"""Packages that only the code of a model's own repository imports."""

from collections.abc import Mapping
from importlib.util import find_spec
from typing import ClassVar

from dofsuite.errors import UserError


class NeedsPackages:
    """A description of a model whose code may import what dofsuite does not need itself."""

    # Module -> name for pip, and the extra of dofsuite that holds them.
    packages: ClassVar[Mapping[str, str]] = {}
    extra: ClassVar[str] = ""

    def check_packages(self) -> None:
        """Check that the packages are there, without importing them.

        Raises:
            UserError: Some are missing; names them and the extra.
        """
        missing = [name for module, name in self.packages.items() if find_spec(module) is None]
        if missing:
            raise UserError(
                f"{type(self).__name__}: its code needs packages that are not installed "
                f"({', '.join(missing)}): pip install 'dofsuite[{self.extra}]', with the "
                "torchvision that fits your torch."
            )
