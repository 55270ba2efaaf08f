"""A gate with one admitted hospital, in front of an application that notes what is passed on."""

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from support.gate import Behind, Hospital, admitted

from fedrad.deploy.coordinator.gate import Gate
from fedrad.deploy.coordinator.seen import SeenFile


@pytest.fixture
def hospital():
    return Hospital("hospital-a", ec.derive_private_key(7, ec.SECP384R1()), node=5)


@pytest.fixture
def behind():
    return Behind()


@pytest.fixture
def members(tmp_path, hospital):
    file = tmp_path / "members.json"
    file.write_text(admitted(hospital).model_dump_json())
    return file


@pytest.fixture
def gate(behind, members, tmp_path):
    return Gate(behind, members, SeenFile(tmp_path))
