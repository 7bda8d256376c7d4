# SPDX-License-Identifier: BSD-2-Clause
#
# For BSD make and GNU make alike.  Cargo does the work: CARGO_TARGET_DIR and
# cargo's other variables hold here too.

#: make               the library, as bhyve links it
#: make demo          a Linux guest on the device, from nothing
#: make test          everything that has to hold; each step also by itself:
#:                      fmt-check clippy man-check makefile-check
#:                      conformance unit model glue c-abi overlay port
#:                      kit-check freebsd-clippy freebsd freebsd-tests
#:                      benches sanitize guest-tests boots flush-mutants
#: make bench         the figures, beside the limits of this machine
#: make bench-guest   fio in a Linux guest, beside QEMU's own nvme device
#: make install       library, header, glue, manual and examples (PREFIX,
#:                    DESTDIR)
#: make header        writes include/bhyve_nvme.h anew
#: make port-crates   writes the port's list of crates anew
#: make fmt           formats the code
#: make lint          fmt-check, clippy and man-check
#: make guests        fetches all that demo and tests boot, and boots Linux on
#:                    every size of controller, for over an hour
#: make freebsd       FreeBSD executables of library and glue (FREEBSD_CC,
#:                    FREEBSD_ARCH)
#: make freebsd-tests tests and benchmark as FreeBSD programs, in
#:                    target/freebsd-tests
#: make clean         removes what was built and fetched

PREFIX?=	/usr/local
DESTDIR?=

# What "make test" runs, the quick and the likely to fail first.
TESTS=	fmt-check clippy man-check makefile-check conformance unit model \
	glue c-abi overlay port kit-check freebsd-clippy freebsd freebsd-tests \
	benches sanitize guest-tests boots flush-mutants

.PHONY: all help demo test bench bench-guest install clean fmt lint header \
	guests port-crates fmt-check clippy man-check makefile-check conformance unit \
	model glue c-abi overlay port kit-check freebsd-clippy freebsd \
	freebsd-tests benches sanitize guest-tests boots flush-mutants

all:
	cargo build --release

help:
	@sed -n 's/^#: //p' Makefile

demo:
	cargo run --release -q -p devhost -- demo

test:
	@MAKE='${MAKE}' sh scripts/run-steps.sh ${TESTS}

bench:
	cargo run --release -q -p devhost --bin bench
	cargo bench --bench controller
	sh benches/instructions.sh

bench-guest:
	cargo run --release -q -p devhost --example compare

install: all
	@DESTDIR='${DESTDIR}' PREFIX='${PREFIX}' sh scripts/install.sh

clean:
	cargo clean

fmt:
	cargo fmt --all

lint: fmt-check clippy man-check

header:
	BHYVE_NVME_UPDATE_HEADER=1 cargo test --workspace --test header

port-crates:
	sh scripts/port-crates.sh

guests:
	cargo run -q -p fetch -- qemu guest ovmf u-boot
	cargo test --workspace --test firmware --test matrix -- --include-ignored

# The steps of "make test", each also by itself.

fmt-check:
	cargo fmt --all --check

clippy:
	cargo clippy --workspace --all-targets -- -D warnings

man-check:
	sh scripts/man-check.sh

makefile-check:
	sh tests/makefile.sh

conformance:
	sh scripts/conformance-check.sh

unit:
	cargo test --workspace

model:
	sh tests/model.sh

glue:
	sh tests/glue_compile.sh

c-abi:
	sh tests/c_abi/run.sh

overlay:
	sh tests/overlay.sh

port:
	sh tests/port.sh

kit-check:
	sh tests/freebsd/kit.sh

freebsd-clippy:
	sh tests/freebsd/clippy.sh

freebsd:
	sh tests/freebsd/link.sh

freebsd-tests:
	sh tests/freebsd/build.sh

benches:
	cargo test --workspace --bench '*'

sanitize:
	sh tests/sanitize.sh

guest-tests:
	cargo test --workspace --test guest

boots:
	cargo test --workspace --test firmware --test matrix

flush-mutants:
	sh tests/flush_mutants.sh
