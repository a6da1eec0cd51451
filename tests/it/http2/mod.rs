//! HTTP/2: everything that HTTP/1.1 can, many at a time on one connection, and what a hostile client gets for it.

mod attacks;
mod limits;
mod load;
mod requests;
