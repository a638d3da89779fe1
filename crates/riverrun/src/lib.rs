//! Riverrun: streaming SQL in one program.
