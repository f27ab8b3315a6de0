//! What is true of a model file.
