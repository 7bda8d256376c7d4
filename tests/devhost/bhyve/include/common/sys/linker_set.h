/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Stand-in for linker sets: pointers that the linker gathers in one ELF
 * section, whose ends it names.
 */

#ifndef _SYS_LINKER_SET_H_
#define	_SYS_LINKER_SET_H_

/* Some linkers drop a section to which nothing but its ends refers. */
#if __has_attribute(retain)
#define	SET_RETAIN	, retain
#else
#define	SET_RETAIN
#endif

#define	DATA_SET(set, sym)						\
	static const void *set_##set##_entry_##sym			\
	    __attribute__((used, section("set_" #set) SET_RETAIN)) = &(sym)

#define	SET_DECLARE(set, type)						\
	extern type *__start_set_##set[] __attribute__((weak));		\
	extern type *__stop_set_##set[] __attribute__((weak))

#define	SET_FOREACH(var, set)						\
	for ((var) = __start_set_##set; (var) < __stop_set_##set; (var)++)

#endif /* !_SYS_LINKER_SET_H_ */
