"""The coordinator's SuperLink: its own socket, and a listener for hospitals behind the gate.

python -m fedrad.deploy.coordinator.superlink --parent PID --socket PATH --database FILE
    --listen HOST --hospital-port PORT --hospital-certificate FILE --hospital-key FILE
"""

from fedrad.system.no_telemetry import disable_telemetry

disable_telemetry()

from fedrad.flower.superlink import run_superlink

from .gate import Gate

if __name__ == "__main__":
    run_superlink(Gate)
