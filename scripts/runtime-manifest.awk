# SPDX-License-Identifier: BSD-2-Clause
#
# Cargo.toml without tests and benchmarks and what only they need: the other
# members of the workspace, and the dependencies for development.  What is left
# builds the library.

/^\[/ {
	drop = ($0 ~ /dev-dependencies/ || $0 == "[[bench]]" || $0 == "[[test]]")
	workspace = ($0 == "[workspace]")
}
drop || (workspace && /^(default-)?members *=/) { next }
{ print }
