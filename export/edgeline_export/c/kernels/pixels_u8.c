/* Images as the network's first quantised tensor: a table of 256 bytes for each channel holds what its pixels become.
 *
 * pixels [images, rows, columns, channels], table [channels][256], NULL: pixels stay what they are
 * y      [images, channels, rows + 2 * pad_rows, columns + 2 * pad_columns] by the strides; around an image stands what
 *        pixel 0 becomes
 *
 * needs: vector */

typedef struct {
    int images, channels, rows, columns, pad_rows, pad_columns;
    ptrdiff_t out_image, out_channel, out_row, out_column;
} edgeline_pixels_u8;

EDGELINE_INLINE void edgeline_pixels_bytes(const edgeline_pixels_u8 *image, const uint8_t *pixels, const uint8_t *table,
                                           uint8_t *y)
{
    const int height = image->rows + 2 * image->pad_rows, width = image->columns + 2 * image->pad_columns;
    const ptrdiff_t line = (ptrdiff_t)image->columns * image->channels;
    for (int i = 0; i < image->images; i++, pixels += image->rows * line)
        for (int channel = 0; channel < image->channels; channel++)
            for (int r = 0; r < height; r++) {
                const int row = r - image->pad_rows;
                const ptrdiff_t at = row * line + channel;
                uint8_t *to = y + i * image->out_image + channel * image->out_channel + r * image->out_row;
                for (int c = 0; c < width; c++, to += image->out_column) {
                    const int column = c - image->pad_columns;
                    const int inside = row >= 0 && row < image->rows && column >= 0 && column < image->columns;
                    const uint8_t pixel = inside ? pixels[at + column * image->channels] : 0;
                    *to = table != NULL ? table[256 * channel + pixel] : pixel;
                }
            }
}
