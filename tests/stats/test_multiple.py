import numpy as np
import pytest

from stats.multiple import holm


def test_holm__worked_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_holm__as_r_has_it() -> None:
    """R 4.3: p.adjust(c(0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344), "holm")."""
    p = [0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344]

    assert holm(p) == pytest.approx([0.0008, 0.0028, 0.0114, 0.0475, 0.0804, 0.0834, 0.0834, 0.0834])


def test_holm__never_above_one_and_one_test_is_itself() -> None:
    assert holm([0.9, 0.8, 0.7]).max() == 1.0
    assert holm([0.03]) == pytest.approx([0.03])
    assert len(holm([])) == 0


@pytest.mark.parametrize("wrong", [-0.1, 1.1, np.nan])
def test_holm__no_probability__is_refused(wrong: float) -> None:
    with pytest.raises(ValueError, match="p_values"):
        holm([0.5, wrong])
