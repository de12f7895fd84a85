"""Ray-native attribution of face-swap deepfake videos."""

__version__ = "0.1.0"
