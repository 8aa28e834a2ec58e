"""What the engine learns from people and renders: labels, the quality filter, the elevation model."""
