#include "store/pack.h"

#include <zstd.h>

enum { LEVEL = 3, CHUNK_BYTES = 256 << 10 };

static void free_cctx(ZSTD_CCtx **c)
{
	ZSTD_freeCCtx(*c);
}

static void free_dctx(ZSTD_DCtx **d)
{
	ZSTD_freeDCtx(*d);
}

int pack(const struct str *plain, struct str *out, struct lem_error *err)
{
	_cleanup_(free_cctx) ZSTD_CCtx *c = ZSTD_createCCtx();
	size_t n;

	if (plain->len > PACK_MAX_BYTES)
		return lem_fail(err, LEM_E_UNSUPPORTED,
				"the record of the run is too large to store (%zu bytes, limit %d)",
				plain->len, PACK_MAX_BYTES);
	if (!c)
		return lem_fail(err, LEM_E_IO, "not enough memory to compress the run");
	ZSTD_CCtx_setParameter(c, ZSTD_c_compressionLevel, LEVEL);
	ZSTD_CCtx_setParameter(c, ZSTD_c_checksumFlag, 1);
	str_reserve(out, ZSTD_compressBound(plain->len));
	n = ZSTD_compress2(c, out->buf + out->len, out->cap - out->len - 1, str_c(plain),
			   plain->len);
	if (ZSTD_isError(n))
		return lem_fail(err, LEM_E_IO, "cannot compress the run: %s", ZSTD_getErrorName(n));
	out->len += n;
	out->buf[out->len] = '\0';
	return 0;
}

static int damaged(const char *why, struct lem_error *err)
{
	int rc = lem_fail(err, LEM_E_PARSE, "the stored run is damaged");

	lem_error_why(err, "%s", why);
	return rc;
}

int unpack(const void *bytes, size_t n, size_t max_bytes, struct str *out, struct lem_error *err)
{
	_cleanup_(free_dctx) ZSTD_DCtx *d = ZSTD_createDCtx();
	_cleanup_str_ struct str plain = STR_INIT;
	ZSTD_inBuffer in = {bytes, n, 0};
	size_t left = 1; /* 0: the frame has ended */

	if (!d)
		return lem_fail(err, LEM_E_IO, "not enough memory to read the run");
	while (left != 0) {
		size_t in_before = in.pos;

		str_reserve(&plain, CHUNK_BYTES);
		ZSTD_outBuffer o = {plain.buf, plain.cap - 1, plain.len};

		left = ZSTD_decompressStream(d, &o, &in);
		if (ZSTD_isError(left))
			return damaged(ZSTD_getErrorName(left), err);
		if (left != 0 && in.pos == in_before && o.pos == plain.len)
			return damaged("it ends too early", err);
		plain.len = o.pos;
		if (plain.len > max_bytes)
			return damaged("it is longer than any run can be", err);
	}
	if (in.pos != n)
		return damaged("other bytes follow it", err);
	str_addn(out, str_c(&plain), plain.len);
	return 0;
}
