//! owner: implement
