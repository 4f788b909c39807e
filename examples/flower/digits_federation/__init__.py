"""AutoFLIP on digits, over Flower."""
