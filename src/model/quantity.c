#include "model/quantity.h"

#include <math.h>

#include "base/jsonw.h"

void quantity_json(struct jsonw *w, const char *key, const struct quantity *q)
{
	jsonw_object(w, key);
	if (q->known && isfinite(q->value)) {
		jsonw_f64(w, "value", q->value);
		jsonw_f64(w, "low", q->low);
		jsonw_f64(w, "high", q->high);
		jsonw_str(w, "method", q->method);
	} else {
		jsonw_null(w, "value");
		jsonw_str(w, "reason",
			  q->known       ? "the figure came out as no number"
			  : q->reason[0] ? q->reason
					 : "not measured");
	}
	jsonw_end_object(w);
}
