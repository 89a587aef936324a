"""How long a newcomer waits: clone, fresh environment, and the README's first block of commands.

The local checkout is cloned into a temporary folder, as committed; the block runs there, in a new virtual environment, without
its own ``git clone`` and ``cd``.

    python examples/benchmarks/quickstart.py
"""

import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import _common as common


def first_block(readme):
    """The commands of the first ```bash block, the clone's left out."""
    block = re.search(r"^```bash\n(.*?)^```", readme, flags=re.DOTALL | re.MULTILINE)
    if block is None:
        common.skip("README.md has no ```bash block")
    return "\n".join(line for line in block[1].splitlines() if not re.match(r"(git clone|cd) ", line))


def timed(command, **settings):
    """Seconds that a command takes; its failure is the script's."""
    begin = time.perf_counter()
    subprocess.run(command, check=True, **settings)
    return time.perf_counter() - begin


def main():
    """Clone and environment, then the block."""
    args = common.parser(__doc__).parse_args()
    with tempfile.TemporaryDirectory() as folder:
        clone, venv = Path(folder) / "sksid", Path(folder) / "venv"
        seconds = {"git clone": timed(["git", "clone", "--quiet", common.ROOT, clone])}
        commands = first_block((clone / "README.md").read_text())
        seconds["python -m venv"] = timed([sys.executable, "-m", "venv", venv])
        print(commands, flush=True)
        environment = {**os.environ, "PATH": f"{venv / 'bin'}:{os.environ['PATH']}", "VIRTUAL_ENV": str(venv)}
        if not args.quick:
            seconds["README's first block"] = timed(["bash", "-euo", "pipefail", "-c", commands], cwd=clone, env=environment)
    print()
    common.table([{"": name, "seconds": value} for name, value in {**seconds, "all": sum(seconds.values())}.items()])
    common.finish("quickstart", args, seconds)


if __name__ == "__main__":
    main()
