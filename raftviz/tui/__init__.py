"""The screen: Textual panels that draw what a laboratory tells (design §10)."""
