# SPDX-License-Identifier: BSD-2-Clause
#
# Part of the model of the ports tree's make files that tests/port.sh uses.

.SUFFIXES:
