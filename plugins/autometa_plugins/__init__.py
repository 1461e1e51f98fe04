"""The bundled plugins; each package is one plugin and is found through its entry point like anybody's."""
