"""`evaluate study build|serve|report`: which of two methods changes the aperture better?"""
