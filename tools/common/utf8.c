/* SPDX-License-Identifier: Apache-2.0 */
#include "utf8.h"

/* Bytes that a lead byte announces, 0 if it is none. */
static size_t announced(unsigned char lead) {
  return lead < 0x80 ? 1 : lead < 0xC2 ? 0 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : lead < 0xF5 ? 4 : 0;
}

size_t utf8_sequence(const char *text, size_t size) {
  const unsigned char *bytes = (const unsigned char *)text;
  size_t length = announced(bytes[0]);
  if (length == 0 || length > size) return 0;
  for (size_t i = 1; i < length; i++) {
    if ((bytes[i] & 0xC0) != 0x80) return 0;
  }
  if (length == 3 && ((bytes[0] == 0xE0 && bytes[1] < 0xA0) || (bytes[0] == 0xED && bytes[1] > 0x9F))) return 0;
  if (length == 4 && ((bytes[0] == 0xF0 && bytes[1] < 0x90) || (bytes[0] == 0xF4 && bytes[1] > 0x8F))) return 0;
  return length;
}

size_t utf8_unfinished(const char *text, size_t size) {
  for (size_t back = 1; back <= 3 && back <= size; back++) {
    unsigned char byte = (unsigned char)text[size - back];
    if ((byte & 0xC0) != 0x80) return announced(byte) > back ? back : 0;
  }
  return 0;
}
