// SPDX-License-Identifier: BSD-2-Clause

//! The store over system calls that record and bend, by the rules of both
//! systems; and over the real ones.

mod fake;
mod flush;
mod open;
mod real;
mod rights;
mod size;
mod space;
mod transfer;
