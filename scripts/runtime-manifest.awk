# SPDX-License-Identifier: BSD-2-Clause
#
# Cargo.toml without what only tests and benchmarks need: the other members of
# the workspace, and the dependencies for development.  What is left builds the
# library.

/^\[/ {
	drop = ($0 == "[dev-dependencies]" || $0 == "[[bench]]")
	workspace = ($0 == "[workspace]")
}
drop || (workspace && /^(default-)?members *=/) { next }
{ print }
