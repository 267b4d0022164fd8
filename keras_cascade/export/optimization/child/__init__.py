"""Code of the child process, in which Keras is Keras 2.

The parent never imports a module of this package: TensorFlow Model
Optimization switches a whole process to Keras 2.
"""
