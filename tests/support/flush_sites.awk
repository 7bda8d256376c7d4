# SPDX-License-Identifier: BSD-2-Clause
#
# awk -f flush_sites.awk FILE
#	lists the places in a Rust file where something becomes durable:
#	line, start (bytes, from 1), length, kind, name, text; tab separated.
# awk -v start=N -v len=N -v kind=KIND -f flush_sites.awk FILE
#	prints the file with that place undone.
#
# kind	what it is			what is left of it
# call	a call that flushes		a value of the same type, made of nothing
# flag	a condition for being durable	false
#
# Comments, literals and the items under #[cfg(test)] do not count.

{ code = code $0 "\n" }

END {
	if (start) {
		undo()
		exit
	}
	hidden = hide(code)
	find_calls()
	find_flags()
}

function undo(	what)
{
	what = substr(code, start, len)
	if (kind == "call")
		what = "(if false { " what " } else { crate::Nothing::nothing() })"
	else
		what = "false"
	printf "%s%s%s", substr(code, 1, start - 1), what, substr(code, start + len)
}

# The code with everything that is not code turned into blanks; each byte keeps
# its place.
function hide(s,	out, i, n, c, two, end, a)
{
	n = length(s)
	for (i = 1; i <= n; i = end) {
		c = substr(s, i, 1)
		two = substr(s, i, 2)
		if (two == "//")
			end = i + index(substr(s, i), "\n") - 1
		else if (two == "/*")
			end = block_comment(s, i)
		else if (c == "\"")
			end = quoted(s, i)
		else if (c == "r" && !is_word(substr(s, i - 1, 1)) && match(substr(s, i, 16), /^r#*"/)) {
			a = "\"" substr(s, i + 1, RLENGTH - 2)
			end = i + RLENGTH + index(substr(s, i + RLENGTH), a) - 1 + length(a)
		} else if (c == "'" && substr(s, i + 1, 1) == "\\")
			end = i + 3 + index(substr(s, i + 3), "'")
		else if (c == "'" && substr(s, i + 2, 1) == "'")
			end = i + 3
		else {
			out = out c
			end = i + 1
			continue
		}
		out = out blanks(substr(s, i, end - i))
	}
	return hide_tests(out)
}

function block_comment(s, i,	depth, two)
{
	depth = 0
	do {
		two = substr(s, i, 2)
		if (two == "/*") {
			depth++
			i += 2
		} else if (two == "*/") {
			depth--
			i += 2
		} else
			i++
	} while (depth > 0 && i <= length(s))
	return i
}

function quoted(s, i,	c)
{
	for (i++; i <= length(s); i++) {
		c = substr(s, i, 1)
		if (c == "\\")
			i++
		else if (c == "\"")
			break
	}
	return i + 1
}

function blanks(s)
{
	gsub(/[^\n]/, " ", s)
	return s
}

# Without each item under #[cfg(test)]: up to its semicolon, or to the end of
# its block.
function hide_tests(s,	at, i, c, depth)
{
	while (at = index(s, "#[cfg(test)]")) {
		depth = 0
		for (i = at + 12; i <= length(s); i++) {
			c = substr(s, i, 1)
			if (c == "{" || c == "(" || c == "[")
				depth++
			if (c == "}" || c == ")" || c == "]")
				depth--
			if (depth <= 0 && (c == ";" || c == "}"))
				break
		}
		s = substr(s, 1, at - 1) blanks(substr(s, at, i - at + 1)) substr(s, i + 1)
	}
	return s
}

# .flush(...), .flush_x(...), ::fsync(...), and ioctls that flush.
function find_calls(	from, at, name, open, end, begin)
{
	from = 1
	while (match(substr(hidden, from), /[.:]((flush|flush_[a-z0-9_]+|fsync|fdatasync|sync_all|sync_data|ioctl) *\()/)) {
		at = from + RSTART
		open = from + RSTART + RLENGTH - 2
		name = substr(hidden, at, open - at)
		from = open
		end = close_of(open)
		if (name ~ /^ioctl/ && substr(hidden, at - 6, 6) != "libc::" &&
		    substr(hidden, open, end - open) !~ /DIOCGFLUSH/)
			continue
		begin = receiver(at - 1)
		if (name ~ /^ioctl/ && substr(hidden, at - 6, 6) != "libc::")
			name = "DIOCGFLUSH"
		else if (substr(hidden, at - 6, 6) == "libc::")
			name = "libc::" name
		site(begin, end - begin + 1, "call", name)
	}
}

# Where the expression starts whose method or path ends before the dot or the
# colon at `i`.
function receiver(i,	c, next_char)
{
	next_char = substr(hidden, i, 1)
	for (i--; i >= 1; i--) {
		c = substr(hidden, i, 1)
		if (c ~ /[ \t\n]/) {
			# A chain that goes on from the line above.
			if (next_char != ".")
				break
			while (substr(hidden, i - 1, 1) ~ /[ \t\n]/)
				i--
			continue
		}
		if (c == ")" || c == "]")
			i = open_of(i)
		else if (c !~ /[A-Za-z0-9_.:?]/)
			break
		next_char = c
	}
	return i + 1
}

function close_of(i,	depth, c)
{
	for (depth = 0; i <= length(hidden); i++) {
		c = substr(hidden, i, 1)
		if (c ~ /[[({]/)
			depth++
		else if (c ~ /[])}]/ && --depth == 0)
			return i
	}
	return length(hidden)
}

function open_of(i,	depth, c)
{
	for (depth = 0; i >= 1; i--) {
		c = substr(hidden, i, 1)
		if (c ~ /[])}]/)
			depth++
		else if (c ~ /[[({]/ && --depth == 0)
			return i
	}
	return 1
}

# `durable = A || B;`, `fua: A,` and the last argument of `.write(a, b, c)`.
function find_flags(	from, at, end)
{
	from = 1
	while (match(substr(hidden, from), /[^A-Za-z0-9_](durable|fua|force_unit_access) *(:|=)[^:=>]/)) {
		at = from + RSTART + RLENGTH - 2
		from = at
		end = end_of(at)
		operands(at, end)
	}
	from = 1
	while (match(substr(hidden, from), /\.write *\(/)) {
		at = from + RSTART + RLENGTH - 2
		from = at
		third(at)
	}
}

# Where the expression from `i` on ends: the last byte before `,`, `;` or a
# closing bracket.
function end_of(i,	depth, c)
{
	for (depth = 0; i <= length(hidden); i++) {
		c = substr(hidden, i, 1)
		if (c ~ /[[({]/)
			depth++
		else if (c ~ /[])}]/ && --depth < 0)
			break
		else if (depth == 0 && c ~ /[,;]/)
			break
	}
	return i - 1
}

# Each operand of || by itself.
function operands(i, end,	begin, depth, c)
{
	begin = i
	for (depth = 0; i <= end; i++) {
		c = substr(hidden, i, 1)
		if (c ~ /[[({]/)
			depth++
		else if (c ~ /[])}]/)
			depth--
		else if (depth == 0 && substr(hidden, i, 2) == "||") {
			flag(begin, i - 1)
			begin = i + 2
			i++
		}
	}
	flag(begin, end)
}

# The third argument of the call whose bracket is at `open`, if it says whether
# the write is to be durable.
function third(open,	i, n, begin, end)
{
	begin = open + 1
	for (n = 1; n < 3; n++) {
		end = end_of(begin)
		if (substr(hidden, end + 1, 1) != ",")
			return
		begin = end + 2
	}
	end = end_of(begin)
	if (substr(hidden, begin, end - begin + 1) ~ /durable|fua|force_unit_access|^[ \t\n]*true[ \t\n]*$/)
		flag(begin, end)
}

function flag(begin, end,	what)
{
	while (begin < end && substr(hidden, begin, 1) ~ /[ \t\n]/)
		begin++
	while (end > begin && substr(hidden, end, 1) ~ /[ \t\n]/)
		end--
	what = substr(hidden, begin, end - begin + 1)
	# A declaration, or nothing to undo.
	if (what ~ /^(bool|false|)$/)
		return
	site(begin, end - begin + 1, "flag", "durable")
}

function site(begin, length_, kind_, name,	line, text)
{
	line = split(substr(code, 1, begin), unused, "\n")
	text = substr(code, begin, length_)
	gsub(/[ \t\n]+/, " ", text)
	printf "%d\t%d\t%d\t%s\t%s\t%s\n", line, begin, length_, kind_, name, text
}

function is_word(c)
{
	return c ~ /[A-Za-z0-9_]/
}
