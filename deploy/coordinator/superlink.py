"""The coordinator's SuperLink: all of Flower's on loopback, and for hospitals what the gate lets
through.

    python -m fedrad.deploy.coordinator.superlink --listen HOST --hospital-port PORT
        --hospital-certificate FILE --hospital-key FILE, and the arguments of `flower-superlink`
        for the one on loopback
"""

from fedrad.system.no_telemetry import disable_telemetry

disable_telemetry()

from fedrad.flower.superlink import run_superlink

from .gate import Gate

if __name__ == "__main__":
    run_superlink(Gate)
