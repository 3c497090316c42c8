"""What of a recovery's text judges it and is not trained on."""

from collections.abc import Mapping

from torch import Tensor

from secateurs.errors import SettingError
from secateurs.settings.recovery import OWN_KINDS


def leave_out(
    sequences: Mapping[str, Tensor], counts: Mapping[str, int], asked: int = 0
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The sequences to train on, and the last `counts` of each domain, which are left out.

    asked: how many of the last ones of own dialogues have questions that are asked, and are not trained on
    either. Raises SettingError for a domain that has no others.
    """
    for domain, rows in sequences.items():
        if len(rows) <= counts[domain]:
            raise SettingError(
                f"recover.left_out: {domain} has {len(rows)} sequences, of which "
                f"{counts[domain]} would be left out and none trained on; lower it, or give more text"
            )
    train = {
        domain: rows[: -max(counts[domain], asked if domain == OWN_KINDS["dialogues"] else 0)]
        for domain, rows in sequences.items()
    }
    return train, {domain: rows[-counts[domain] :] for domain, rows in sequences.items()}
