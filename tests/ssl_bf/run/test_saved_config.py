import pytest

from linear_eval.system.errors import InputError
from ssl_bf.run.saved_config import IMAGE_ORDER, check_order


def test_a_run_keeps_the_order_of_images_it_began_with() -> None:
    check_order({"seed": 3, **IMAGE_ORDER})
    for saved in ({"seed": 3}, {"image_order": "another"}):
        with pytest.raises(InputError, match="^was begun by a version that gave the images"):
            check_order(saved)
