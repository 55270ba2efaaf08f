"""The coordinator's SuperLink: all APIs of Flower on loopback, and those of the gate for hospitals.

python -m fedrad.deploy.coordinator.superlink --listen HOST --hospital-port PORT
    --hospital-certificate FILE --hospital-key FILE, and the arguments of `flower-superlink`
    for the one on loopback
"""

from fedrad.system.no_telemetry import disable_telemetry

disable_telemetry()

from fedrad.flower.superlink import run_superlink
from fedrad.system.private import make_private

from .gate import Gate

if __name__ == "__main__":
    make_private()
    run_superlink(Gate)
