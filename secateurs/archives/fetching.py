"""Archives of the package index, fetched as they are: nothing of a package is built, installed or run.

`pip download` runs the build backend of a source archive to ask it for metadata. Here pip's own machinery
finds the archive and transfers it, by whatever index, proxy, certificate and login pip is configured with,
and stops there.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

from secateurs.errors import SettingError
from secateurs.files.full_disk import check_room

FETCH_SECONDS = 1800
# The environment variables that pip is given: its settings, where its files are, proxies and certificates. It
# is given no others, and so no tokens.
_KEPT = frozenset(
    {
        *("PATH", "HOME", "USER", "LOGNAME", "LANG", "TZ", "TMPDIR", "TMP", "TEMP", "SYSTEMROOT", "APPDATA"),
        *(
            "LOCALAPPDATA",
            "USERPROFILE",
            "VIRTUAL_ENV",
            "XDG_CONFIG_HOME",
            "XDG_CONFIG_DIRS",
            "XDG_CACHE_HOME",
        ),
        *("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "FTP_PROXY", "NO_PROXY", "NETRC"),
        *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"),
    }
)

# Runs in a process of its own. It calls functions that pip does not promise to keep; pip's version is pinned,
# and another version that lacks one of them is refused with the name of the function.
SCRIPT = """
import json, logging, sys

def answer(**values):
    print(json.dumps(values))
    sys.exit()

name, version, kind, target = sys.argv[1:]
failures = []

class Listener(logging.Handler):
    def emit(self, record):
        text = record.getMessage()
        if text.startswith("Could not fetch URL"):
            failures.append(text.partition(": ")[2].removesuffix(" - skipping"))

try:
    import pip
    from pip._internal.commands import create_command
    from pip._internal.exceptions import PipError
    from pip._internal.network.utils import response_chunks
    from pip._vendor.packaging.specifiers import SpecifierSet
    from pip._vendor.requests.exceptions import RequestException

    collector = logging.getLogger("pip._internal.index.collector")
    collector.setLevel(logging.DEBUG)
    collector.addHandler(Listener())
    command = create_command("download")
    chosen = "--only-binary=:all:" if kind == "wheel" else f"--no-binary={name}"
    options, _ = command.parse_args(["--no-input", chosen])
    with command.main_context():
        session = command.get_default_session(options)
        finder = command._build_package_finder(options, session)
        found = finder.find_best_candidate(name, SpecifierSet(f"=={version}")).best_candidate
        if found is None:
            others = sorted({one.version for one in finder.find_all_candidates(name)})
            answer(missing=[str(one) for one in others], failures=failures)
        response = session.get(
            found.link.url_without_fragment, headers={"Accept-Encoding": "identity"}, stream=True
        )
        response.raise_for_status()
        with open(target, "wb") as file:
            for chunk in response_chunks(response):
                file.write(chunk)
        promised = found.link.as_hashes()
        if promised:
            promised.check_against_path(target)
    answer(fetched=found.link.filename)
except (ImportError, AttributeError, TypeError) as error:
    answer(unknown=f"{getattr(pip, '__version__', '')}: {error}")
except (PipError, RequestException, OSError, ValueError) as error:
    answer(failed=str(error).strip() or type(error).__name__)
"""


def fetch_archive(package: str, kind: str, key: str, directory: Path) -> Path:
    """Transfer the archive of a package into `directory` and return its path.

    package: `name==version`; kind: wheel or sdist; key: the package's place in params.yaml. It is checked
    against the hash that the index gives, where it gives one. Raises InputError, naming the key, where there
    is no such archive or it cannot be fetched.
    """
    name, _, version = package.partition("==")
    target = directory / "archive"
    # Isolated from the current directory and the environment, but not from pip's configuration.
    command = [sys.executable, "-P", "-c", SCRIPT, name, version, kind, str(target)]
    where = f"{key}: {package}"
    try:
        done = subprocess.run(
            command, env=_environment(), capture_output=True, text=True, check=False, timeout=FETCH_SECONDS
        )
    except subprocess.TimeoutExpired:
        raise SettingError(f"{where}: fetching its {kind} took more than {FETCH_SECONDS} s") from None
    try:
        answer = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        said = (done.stderr.strip() or f"exit status {done.returncode}").splitlines()[-1]
        raise SettingError(f"{where}: pip cannot fetch its {kind}: {said}") from None
    if "fetched" not in answer:
        check_room(str(answer), target)
        raise SettingError(f"{where}: {_reason(answer, kind)}")
    return target


def _reason(answer: dict[str, list[str]], kind: str) -> str:
    if "missing" in answer:
        unreached = [one for one in answer["failures"] if not one.startswith("404 ")]
        if unreached:
            return f"the package index cannot be reached: {_first_line(unreached[-1])}"
        others = answer["missing"]
        among = (
            f"versions with one are {', '.join(others[-8:])}" if others else f"no version of it has a {kind}"
        )
        return f"the package index has no {kind} of it that suits this machine; {among}"
    if "unknown" in answer:
        return (
            f"this pip is not one that can be asked for archives ({answer['unknown']}); install the one "
            "that constraints.txt pins"
        )
    return f"pip cannot fetch its {kind}: {_first_line(str(answer['failed']))}"


def _first_line(text: str) -> str:
    return text.strip().splitlines()[0]


def _environment() -> dict[str, str]:
    return {
        name: value
        for name, value in os.environ.items()
        if name.upper() in _KEPT or name.upper().startswith(("PIP_", "LC_"))
    }
