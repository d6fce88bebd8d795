#include "base/vec.h"

void *vec_grow_(void *at, size_t n, size_t *cap, size_t extra, size_t elem_size)
{
	size_t need = n + extra;

	assert(need >= n);
	if (need <= *cap)
		return at;
	*cap = MAX(need, MAX(*cap + *cap / 2, (size_t)8));
	return lem_reallocarray(at, *cap, elem_size);
}
