/*
 * banned.h — functions that have no place in this code.
 *
 * Included through base/base.h by every file of ours, after the system headers. Each name here
 * either cannot bound its output, cannot report an error, or hides global state. Using one is a
 * compile error that names the replacement.
 */
#ifndef LEM_BASE_BANNED_H
#define LEM_BASE_BANNED_H

#define LEM_BANNED(func, use) sorry_##func##_is_banned_use_##use

#undef strcpy
#define strcpy(d, s) LEM_BANNED(strcpy, str_set_or_lem_strlcpy)
#undef strcat
#define strcat(d, s) LEM_BANNED(strcat, str_add)
#undef strncpy
#define strncpy(d, s, n) LEM_BANNED(strncpy, lem_strlcpy)
#undef strncat
#define strncat(d, s, n) LEM_BANNED(strncat, str_add)
#undef sprintf
#define sprintf(...) LEM_BANNED(sprintf, snprintf)
#undef vsprintf
#define vsprintf(...) LEM_BANNED(vsprintf, vsnprintf)
#undef gets
#define gets(s) LEM_BANNED(gets, getline)
#undef strtok
#define strtok(s, d) LEM_BANNED(strtok, strtok_r)
#undef atoi
#define atoi(s) LEM_BANNED(atoi, num_parse_i64)
#undef atol
#define atol(s) LEM_BANNED(atol, num_parse_i64)
#undef atoll
#define atoll(s) LEM_BANNED(atoll, num_parse_i64)
#undef atof
#define atof(s) LEM_BANNED(atof, num_parse_f64)
#undef gmtime
#define gmtime(t) LEM_BANNED(gmtime, gmtime_r)
#undef localtime
#define localtime(t) LEM_BANNED(localtime, localtime_r)
#undef ctime
#define ctime(t) LEM_BANNED(ctime, clock_format_utc)
#undef asctime
#define asctime(t) LEM_BANNED(asctime, clock_format_utc)
#undef system
#define system(c) LEM_BANNED(system, proc_spawn)
#undef popen
#define popen(c, m) LEM_BANNED(popen, proc_spawn)
#undef tmpnam
#define tmpnam(s) LEM_BANNED(tmpnam, mkstemp)
#undef mktemp
#define mktemp(s) LEM_BANNED(mktemp, mkstemp)
#undef rand
#define rand() LEM_BANNED(rand, rand_u64)
#undef srand
#define srand(s) LEM_BANNED(srand, rand_seed)

#endif
