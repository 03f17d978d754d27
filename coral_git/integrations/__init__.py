"""coral-git in training scripts: one module for each framework, imported only when it is used."""
