"""Settings: flags before environment before defaults; one sentence for an error."""

import pytest

from lepton_operator.settings import Settings, SettingsError, load_settings


def test_defaults() -> None:
    settings = load_settings([], {})
    assert settings.workers == 8
    assert settings.namespaces == ()
    assert settings.store_class is None


def test_flags_go_before_the_environment() -> None:
    environment = {
        "LEPTON_WORKERS": "4",
        "LEPTON_NAMESPACES": "a, b,",
        "LEPTON_STORE_CLASS": "",
        "OTHER": "x",
    }
    settings = load_settings(["--workers", "2"], environment)
    assert settings.workers == 2
    assert settings.namespaces == ("a", "b")
    assert settings.store_class is None


@pytest.mark.parametrize(
    ("arguments", "environment", "words"),
    [
        (["--workers", "0"], {}, ["--workers='0'", "greater than or equal to 1"]),
        (["--workers", "many"], {}, ["--workers='many'"]),
        ([], {"LEPTON_STORE_SIZE": "ten"}, ["LEPTON_STORE_SIZE='ten'"]),
        ([], {"LEPTON_LOG_LEVEL": "loud"}, ["LEPTON_LOG_LEVEL", "debug"]),
        (["--trainer-image", ""], {}, ["--trainer-image"]),
    ],
)
def test_a_wrong_value_is_named(arguments: list[str], environment: dict[str, str], words: list[str]) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(arguments, environment)
    assert "\n" not in str(caught.value)
    for word in words:
        assert word in str(caught.value)


def test_help_lists_every_setting(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        load_settings(["--help"], {})
    assert caught.value.code == 0
    text = capsys.readouterr().out
    for name in Settings.model_fields:
        assert f"--{name.replace('_', '-')}" in text
        assert f"LEPTON_{name.upper()}" in "".join(text.split())


def test_an_unknown_flag_exits_with_2() -> None:
    with pytest.raises(SystemExit) as caught:
        load_settings(["--nope", "1"], {})
    assert caught.value.code == 2


def test_decisions_see_images_and_store() -> None:
    context = load_settings(
        ["--trainer-image", "t:1", "--store-access-mode", "ReadWriteOnce"], {}
    ).decision_context()
    assert (context.trainer_image, context.store_access_mode) == ("t:1", "ReadWriteOnce")


def test_an_empty_image_for_tensorflow_is_none() -> None:
    for image in ({}, {"LEPTON_TENSORFLOW_SERVER_IMAGE": ""}):
        assert load_settings([], image).decision_context().tensorflow_server_image is None
    named = load_settings([], {"LEPTON_TENSORFLOW_SERVER_IMAGE": "t:1", "LEPTON_DRIFT_INTERVAL_SECONDS": "5"})
    context = named.decision_context()
    assert (context.tensorflow_server_image, context.drift_interval_seconds) == ("t:1", 5.0)
