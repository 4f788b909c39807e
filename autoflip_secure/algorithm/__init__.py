"""AutoFLIP itself: exploration, guidance and the agreement scores, one equation of the paper (or of ours) a file.

Pure functions and frozen plug-ins on rows and vectors; it knows interfaces, models and secure rows, never a federation.
"""
