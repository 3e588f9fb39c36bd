"""What is shown of a model's contract."""

import pytest

from fleet_cloud.entrypoints.cli.model_show import describe_preprocessing
from fleet_shared.manifest import Fit, ImageRules, Preprocessing


@pytest.mark.parametrize(
    ("preprocessing", "expected"),
    [
        (Preprocessing(), "scale=1 offset=0"),
        (
            Preprocessing(colour="rgb", scale=1 / 255),
            "colour=rgb scale=0.00392157 offset=0 resize=bicubic fit=stretch layout=nhwc",
        ),
        (
            Preprocessing(
                colour="bgr", offset=-1.0, image=ImageRules(fit=Fit.CROP, mean=(0.5,), std=(1, 2, 3))
            ),
            "colour=bgr scale=1 offset=-1 mean=0.5 std=1,2,3 resize=bicubic fit=crop layout=nhwc",
        ),
    ],
)
def test_preprocessing_in_the_words_of_the_import(preprocessing: Preprocessing, expected: str) -> None:
    assert describe_preprocessing(preprocessing) == expected
