"""schemathesis over the OpenAPI document: no server error, every answer as the document describes it."""

import subprocess
import sys

from sppo_ray.fakes import FakeRun
from tests.web.serving import TOKEN, sampled_folder, served

# What a chat template accepts is more than a schema can say: valid requests may be refused (positive_data_acceptance).
CHECKS = (
    "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance,"
    "negative_data_rejection,unsupported_method,ignored_auth"
)


def test_the_service_keeps_to_its_document(tmp_path):
    with served(FakeRun(sampled_folder(tmp_path / "run"))) as url:
        command = [sys.executable, "-m", "schemathesis.cli", "run", f"{url}/openapi.json", "--checks", CHECKS]
        command += ["-H", f"Authorization: Bearer {TOKEN}", "--phases", "examples,coverage,fuzzing", "--seed", "1"]
        # The stream of events does not end, and has a test of its own.
        command += ["--exclude-path", "/api/events", "--max-examples", "15", "--generation-database", "none"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    assert "15 selected / 16 total" in done.stdout
