"""What the objects of this package have in common."""

from __future__ import annotations

from typing import NoReturn, SupportsIndex


class Unpicklable:
    """An object that stands for something outside of this process: a copy of it
    would be none."""

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        raise TypeError(
            f"a {type(self).__name__} cannot be pickled or copied: it belongs to this process; make another there"
        )
