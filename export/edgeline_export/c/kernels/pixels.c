/* Images as the network's input: a table of 256 numbers for each channel holds what its pixels become.
 *
 * pixels [images, rows, columns, channels], table [channels][256]
 * y      [images, channels, rows + 2 * pad_rows, columns + 2 * pad_columns]; around an image stands what pixel 0 becomes
 *
 * needs: vector */

typedef struct {
    int images, channels, rows, columns, pad_rows, pad_columns;
} edgeline_pixels;

EDGELINE_INLINE void edgeline_pixels_f32(const edgeline_pixels *image, const uint8_t *pixels, const float *table,
                                         float *y)
{
    const int height = image->rows + 2 * image->pad_rows, width = image->columns + 2 * image->pad_columns;
    for (int i = 0; i < image->images; i++, pixels += (ptrdiff_t)image->rows * image->columns * image->channels)
        for (int channel = 0; channel < image->channels; channel++)
            for (int r = -image->pad_rows; r < height - image->pad_rows; r++)
                for (int c = -image->pad_columns; c < width - image->pad_columns; c++) {
                    const int inside = r >= 0 && r < image->rows && c >= 0 && c < image->columns;
                    const ptrdiff_t at = ((ptrdiff_t)r * image->columns + c) * image->channels + channel;
                    *y++ = table[256 * channel + (inside ? pixels[at] : 0)];
                }
}
