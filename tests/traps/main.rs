// SPDX-License-Identifier: BSD-2-Clause

//! Inputs that broke other NVMe emulations, and what guests are known to rely
//! on: through the C interface, as bhyve passes a guest's accesses on.

mod admin;
mod data_pointers;
mod doorbells;
mod guests;
mod interrupts;
mod io;
mod queues;
mod registers;
