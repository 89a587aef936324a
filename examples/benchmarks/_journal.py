"""A journal of measurements: a file of JSON lines that is only added to, so that a run can be stopped and taken up again."""

import json
from pathlib import Path


class Journal:
    """Records of a file of JSON lines, in memory too."""

    def __init__(self, path):
        self.path = Path(path)
        self.records = [json.loads(line) for line in self.path.read_text().splitlines()] if self.path.exists() else []

    def add(self, **record):
        """Keep a record, at once."""
        self.records.append(record)
        with open(self.path, "a") as file:
            file.write(json.dumps(record, default=float) + "\n")
        return record

    def last(self, **key):
        """The last record with these entries, or None."""
        return next((record for record in reversed(self.records) if key.items() <= record.items()), None)
