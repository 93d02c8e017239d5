"""samevoice: is this the same voice?"""
