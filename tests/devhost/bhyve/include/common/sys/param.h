/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * The system's own, with another version where a test names one: FreeBSD's
 * header defines it whatever the command line says.
 */

#include_next <sys/param.h>

#ifdef STANDIN_VERSION
#undef __FreeBSD_version
#define	__FreeBSD_version	STANDIN_VERSION
#endif
