"""`python -m lepton_operator`: exit code 0 after a signal, 1 when something broke, 2 for wrong settings."""

import asyncio
import sys

from lepton_operator.app import run
from lepton_operator.logs import configure_logging
from lepton_operator.settings import SettingsError, load_settings


def main() -> int:
    """Read the settings and run."""
    try:
        settings = load_settings(sys.argv[1:])
    except SettingsError as error:
        print(error, file=sys.stderr)
        return 2
    configure_logging(settings.log_level)
    return asyncio.run(run(settings))


if __name__ == "__main__":
    sys.exit(main())
